"""Speed of the normaliser beside its peers; every figure in the README comes from here."""
