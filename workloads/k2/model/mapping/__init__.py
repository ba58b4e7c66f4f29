"""How a vendor writes its files, as data: the form of a mapping file, and the mappings that ship with K2 under a name."""
