"""Distribution of images: a table of destinations, one module for each, and the steps after a delivery."""
