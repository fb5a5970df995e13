"""`jepa data`: turns recordings of games into frames to train on."""
