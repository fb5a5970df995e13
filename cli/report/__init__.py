"""`jepa report`: an HTML page about a bundle."""
