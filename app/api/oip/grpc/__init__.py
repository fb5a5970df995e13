"""The Open Inference Protocol over gRPC; needs jepa-serve[grpc]."""
