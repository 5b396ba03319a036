"""The main job after training: predict, measure, search, export. Each command calls one of these functions."""

from ofa_tf.pipeline.answering import Answer, Verified, find_all
from ofa_tf.pipeline.benchmarking import Benchmark, benchmark_file
from ofa_tf.pipeline.evaluating import Evaluation, evaluate_file
from ofa_tf.pipeline.exporting import Export, ExportOptions, Target, export, export_arch_file, export_budgets
from ofa_tf.pipeline.filing import FileOptions
from ofa_tf.pipeline.measuring import get_table, measure_table, validate
from ofa_tf.pipeline.predicting import fit, load_predictor, load_supernet, make_evaluator
from ofa_tf.pipeline.searching import Choice, Limits, find, find_fronts, find_with

__all__ = [
    "Answer",
    "Benchmark",
    "Choice",
    "Evaluation",
    "Export",
    "ExportOptions",
    "FileOptions",
    "Limits",
    "Target",
    "Verified",
    "benchmark_file",
    "evaluate_file",
    "export",
    "export_arch_file",
    "export_budgets",
    "find",
    "find_all",
    "find_fronts",
    "find_with",
    "fit",
    "get_table",
    "load_predictor",
    "load_supernet",
    "make_evaluator",
    "measure_table",
    "validate",
]
