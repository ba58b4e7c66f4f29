"""What a question reads, as values and SQL: files, rows that no file has yet, what of them may be seen. Knows no engine."""
