"""From rows to rows: queues, batches, threads and sessions of ONNX Runtime. Knows no HTTP."""
