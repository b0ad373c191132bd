"""watermark: keyed marks in answers: keys, detector, embedders, and filters of what is sent."""
