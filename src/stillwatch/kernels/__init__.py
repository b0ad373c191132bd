"""kernels: pure functions on Arrow and NumPy: hashing, shingles, sketches, rhythm, e-values."""
