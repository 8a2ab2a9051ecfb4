"""The store: results, journal and requests as files, single or merged."""
