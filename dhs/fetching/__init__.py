"""Parts of `dhs.fetch`: the catalogue, the service, how it is asked, and what is kept."""
