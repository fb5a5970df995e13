"""What training writes and serving reads: the contract between `model/` and `app/`, and the only code they share."""
