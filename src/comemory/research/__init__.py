"""What exists to find things out: experiment grids, scene studies, pseudo-anomalies. Detecting and watching never import it."""
