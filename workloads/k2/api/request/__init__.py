"""What happens to every request on its way: scope, admission, answers, problems, the access line. Knows no route."""
