"""Video anomaly detection with fixed cameras."""
