"""From the bytes of files to events: layouts, columns, ids. Knows no topic and no load."""
