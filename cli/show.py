"""`ofa-tf show`."""

import json

import click
from ofa_tf.cli.common import json_option, print_json, print_table


@click.command("show")
@click.argument("model", metavar="MODEL.tflite")
@json_option
def command(model, as_json):
    """Describe a .tflite file: input, operators, size, and the metadata in it."""
    from ofa_tf.project.show import describe_file, predict_arena

    description = describe_file(model)
    arena = predict_arena(description)
    if as_json:
        print_json(_document(description, arena))
    else:
        _print(description, arena)


def _document(description, arena) -> dict:
    facts = dict(description.facts.__dict__)
    for name in ("inputs", "outputs"):
        facts[name] = [tensor.__dict__ for tensor in facts[name]]
    metadata = description.metadata
    return {
        "file": str(description.path),
        "sha256": description.sha256,
        **facts,
        "n_float_tensors": description.facts.n_float_tensors,
        "metadata": None if metadata is None else dict(metadata.__dict__),
        "predicted_arena_bytes": None if arena is None else arena.total_bytes,
    }


def _print(description, arena) -> None:
    facts, metadata = description.facts, description.metadata
    rows = [("size", f"{facts.size_bytes / 1e3:.0f} kB, {facts.parameter_bytes / 1e3:.0f} kB of it parameters")]
    rows += [("input", _tensor(tensor)) for tensor in facts.inputs]
    rows += [("output", _tensor(tensor)) for tensor in facts.outputs]
    rows += [
        ("MACs", f"{facts.n_macs / 1e6:.2f} M in convolutions and fully connected layers"),
        ("operators", _counts(facts.ops)),
        ("tensors", _counts(facts.tensor_types)),
    ]
    if arena is not None:
        parts = f"{arena.activation_bytes / 1e3:.1f} kB of it activations"
        rows.append(("peak RAM", f"{arena.total_bytes / 1e3:.1f} kB in TensorFlow Lite Micro, predicted, {parts}"))
    if facts.n_subgraphs > 1:
        rows.append(("subgraphs", f"{facts.n_subgraphs}; operators and MACs are added up over all of them"))
    if metadata is None:
        rows.append(("metadata", "none: the file names neither its labels nor its normalisation"))
    else:
        for name in ("name", "description", "version", "author", "license"):
            if getattr(metadata, name):
                rows.append((name, getattr(metadata, name)))
        rows.append(("labels", _labels(metadata.labels)))
        if metadata.mean:
            rows.append(("normalisation", f"(pixel - {_numbers(metadata.mean)}) / {_numbers(metadata.std)}"))
        if metadata.arch is not None:
            rows.append(("arch", json.dumps(metadata.arch)))
    rows.append(("sha256", description.sha256))
    print_table([str(description.path), ""], rows)


def _tensor(tensor) -> str:
    shape = "x".join("?" if length < 0 else str(length) for length in tensor.shape)
    if tensor.scale is None:
        return f"{tensor.dtype.lower()} {shape}"
    stored = f"(stored {-tensor.zero_point:+d})" if tensor.zero_point else "stored"
    return f"{tensor.dtype.lower()} {shape}, {tensor.scale:.6g} * {stored}"


def _counts(counts) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _labels(labels) -> str:
    if not labels:
        return "none"
    return f"{len(labels)}: {', '.join(labels[:10])}{', …' if len(labels) > 10 else ''}"


def _numbers(values) -> str:
    values = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:g}" for value in values) if len(values) == 1 else str([round(v, 4) for v in values])
