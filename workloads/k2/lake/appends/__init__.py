"""From a batch to the table: order, what is there already, files, the commit."""
