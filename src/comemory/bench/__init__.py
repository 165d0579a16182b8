"""Timings: alternating rounds, medians with their spread, and the environment that they were taken in."""

from comemory.bench.detector import bench_model, bench_pipeline
from comemory.bench.flow import bench_flow, flow_cost, moving_images
from comemory.bench.network import bundle_cost, network_time
from comemory.bench.roofline import convolutions, convolutions_gflop, network_gflop
from comemory.bench.timing import Timing, interleave, measurement_environment, peak_rss_mib, threads, usable_cores
from comemory.bench.training import bench_training

__all__ = [
    "Timing",
    "bench_flow",
    "bench_model",
    "bench_pipeline",
    "bench_training",
    "bundle_cost",
    "convolutions",
    "convolutions_gflop",
    "flow_cost",
    "interleave",
    "measurement_environment",
    "moving_images",
    "network_gflop",
    "network_time",
    "peak_rss_mib",
    "threads",
    "usable_cores",
]
