"""One module a dialect of HTTP; each turns requests into calls of `app.engine` and answers into bytes."""
