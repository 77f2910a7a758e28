"""Evidence from a GPU: exactness and speed, in one run that needs no test dependency."""
