"""A simulated survey: what is on its sky, its images, its files and its picture."""
