"""Commands of ``dhs``; slow imports are inside the commands that need them."""
