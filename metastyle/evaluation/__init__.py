"""Measures of images, clips and times, and the verdicts that follow; training is unknown here."""
