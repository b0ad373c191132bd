"""watermark: keyed marks in answers: keys, detector and embedders."""
