"""The networks of a JEPA, from the encoding of columns to the predictor."""
