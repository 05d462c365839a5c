"""A Python-based Triton backend that runs a plain ONNX repository (`<version>/model.onnx`).

Triton's own `onnxruntime` backend is native code and not part of every build; under the same name this one makes the
same repository load. It runs inside Triton's Python ("Python-based Backends", triton-inference-server/python_backend)
and imports nothing of this project.

Requests run one by one, with `max_batch_size` 0: merging may change results, since a graph may reduce, normalise or
quantise (DynamicQuantizeLinear) over its leading dimension. With a `max_batch_size` requests are merged, and the model
is refused when an attempt shows that its answers change.

With the configuration's parameter `warm_up_seconds` the model answers an invented request before it is loaded. One that
it cannot answer proves nothing; one that takes longer has it refused.
"""

import json
import os
import threading
import time

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

# Element types as onnxruntime names them -> as Triton's model configuration does.
TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(bfloat16)": "TYPE_BF16",
    "tensor(string)": "TYPE_STRING",
}


# Whether a request is cancelled is a question to another process, 0.06 ms long.
WORTH_ASKING_SECONDS = 0.005

# How long a run goes on, at most, after its caller left or its deadline passed.
WATCH_SECONDS = 0.1


class Watch(threading.Thread):
    """Ends the run under way once nobody waits for its answer; asleep while there is none."""

    def __init__(self):
        super().__init__(daemon=True)
        self.lock = threading.Lock()  # a request must not be asked about once it has been answered
        self.needed = threading.Event()
        self.under_way = None

    def begin(self, request):
        options = onnxruntime.RunOptions()
        with self.lock:
            self.under_way = (request, options)
            self.needed.set()
        return options

    def end(self):
        with self.lock:
            self.under_way = None

    def run(self):
        while True:
            self.needed.wait()
            time.sleep(WATCH_SECONDS)
            with self.lock:
                if self.under_way is None:
                    self.needed.clear()
                    continue
                request, options = self.under_way
                options.terminate = request.is_cancelled()


NUMPY = {
    "tensor(bool)": np.bool_,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    **{f"tensor({sign}int{bits})": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

# Of what a dynamic dimension may be, what most graphs take.
INVENTED_SIZES = (1, 8)
ROWS = (1, 1, 2)


def invented(argument, size, random, rows=None):
    """A value for an input, with `size` for its dynamic dimensions; `rows`: as many, each on a scale of its own."""
    shape = [each if isinstance(each, int) and each > 0 else size for each in argument.shape]
    if rows is not None:
        shape[0] = rows
    if argument.type == "tensor(string)":
        texts = np.empty(shape, np.object_)
        texts[...] = "text"
        return texts
    dtype = np.dtype(NUMPY[argument.type])
    if dtype.kind != "f":
        return random.integers(0, 2, shape).astype(dtype)
    scales = 10.0 ** random.integers(-1, 2, shape[:1] + [1] * (len(shape) - 1)) if shape else 1
    return (random.normal(size=shape) * scales).astype(dtype)


class RequestError(Exception):
    """A request that this model cannot answer; the message goes to the caller."""


def open_session(device=None):
    """The session of this model's version folder, on CUDA device number `device` or, for None, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    # Idle threads that spin would take the processor from the other models of this server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if device is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device}))
    return onnxruntime.InferenceSession(
        os.path.join(pb_utils.get_model_dir(), "model.onnx"), options, providers=providers
    )


def describe(argument, config):
    """An input or output of the session as Triton's configuration has it: a symbolic dimension is -1, a scalar [1].

    With a `max_batch_size` Triton leaves the first dimension out of its configuration.
    """
    if argument.type not in TYPES:
        raise pb_utils.TritonModelException(f"'{argument.name}' is a {argument.type}, which Triton cannot carry")
    dims = [size if isinstance(size, int) and size >= 0 else -1 for size in argument.shape]
    batched = config["max_batch_size"] > 0
    return {"name": argument.name, "data_type": TYPES[argument.type], "dims": dims[batched:] or [1]}


def decode_strings(name, values):
    """Triton's bytes objects as the str that onnxruntime takes (it would turn b'x' into \"b'x'\")."""
    try:
        strings = [value.decode() if isinstance(value, bytes) else str(value) for value in values.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(f"'{name}' has an element that is not UTF-8 text") from error
    decoded = np.empty(len(strings), dtype=np.object_)
    decoded[:] = strings
    return decoded.reshape(values.shape)


def merged(feeds):
    return {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}


def same(array, other):
    """But for what the order of additions does to the last digits."""
    if array.shape != other.shape:
        return False
    if array.dtype.kind != "f":
        return bool(np.array_equal(array, other))
    tolerance = 1e-2 if array.dtype == np.float16 else 1e-4
    return bool(np.allclose(array, other, rtol=tolerance, atol=tolerance / 100, equal_nan=True))


def abandoned():
    error = pb_utils.TritonError("nobody waits for the answer", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)


def refused(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        """Fills in what a configuration leaves out; one that names its tensors is left as it is, and loads faster."""
        written = config.as_dict()
        if not (written["input"] and written["output"]):
            session = open_session()
            for argument in session.get_inputs():
                config.add_input(describe(argument, written))
            for argument in session.get_outputs():
                config.add_output(describe(argument, written))
        return config

    def initialize(self, args):
        gpu = args["model_instance_kind"] == "GPU"
        self.session = open_session(int(args["model_instance_device_id"]) if gpu else None)
        self.inputs = {argument.name: argument for argument in self.session.get_inputs()}
        self.outputs = {argument.name: argument for argument in self.session.get_outputs()}
        self.seconds = 0.0  # that the latest request took
        self.watch = Watch()
        self.watch.start()
        self.check(json.loads(args["model_config"]))
        types = {argument.type for argument in (*self.inputs.values(), *self.outputs.values())}
        # numpy has no bfloat16: such tensors change hands as DLPack, which in turn has no strings.
        self.bfloat16 = "tensor(bfloat16)" in types
        if self.bfloat16 and "tensor(string)" in types:
            raise pb_utils.TritonModelException("a model with both bfloat16 and string tensors cannot be run")
        config = json.loads(args["model_config"])
        seconds = float(config.get("parameters", {}).get("warm_up_seconds", {}).get("string_value", 0))
        if seconds and not self.bfloat16:
            self.warm_up(seconds)
        self.merges = config["max_batch_size"] > 0
        if self.merges:
            self.try_merging(seconds or None)

    def warm_up(self, seconds):
        random = np.random.default_rng(0)
        feeds = {name: invented(argument, 1, random) for name, argument in self.inputs.items()}
        try:
            self.run_within(seconds, feeds)
        except TimeoutError:
            raise pb_utils.TritonModelException(f"its first call took longer than {seconds:g} seconds") from None
        except Exception as error:
            pb_utils.Logger.log_info(f"it does not answer what was invented: {error}")

    def run_within(self, seconds, feeds):
        options = onnxruntime.RunOptions()

        def end():
            options.terminate = True

        timer = threading.Timer(seconds or WATCH_SECONDS, end)
        if seconds:
            timer.start()
        try:
            return self.session.run(None, feeds, options)
        except Exception:
            if options.terminate:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def try_merging(self, seconds):
        """Raises unless requests give together what each of them gives alone."""
        failure = None
        for size in INVENTED_SIZES:
            random = np.random.default_rng(size)
            requests = [
                {name: invented(argument, size, random, rows) for name, argument in self.inputs.items()}
                for rows in ROWS
            ]
            try:
                alone = [self.run_within(seconds, feeds) for feeds in requests]
                together = self.run_within(seconds, merged(requests))
            except Exception as error:
                failure = error
                continue
            for name, value, *parts in zip(self.outputs, together, *alone, strict=True):
                if not same(value, np.concatenate(parts)):
                    raise pb_utils.TritonModelException(f"merging requests would change its answers, in '{name}'")
            return
        raise pb_utils.TritonModelException(
            f"it cannot be shown that merging requests leaves its answers as they are: {failure}"
        )

    def check(self, config):
        """A configuration that does not fit the graph fails to load, and not at the first call."""
        for kind, arguments in (("input", self.inputs), ("output", self.outputs)):
            for tensor in config[kind]:
                argument = arguments.get(tensor["name"])
                if argument is None:
                    raise pb_utils.TritonModelException(f"the model has no {kind} '{tensor['name']}'")
                found = describe(argument, config)
                if (found["data_type"], len(found["dims"])) != (tensor["data_type"], len(tensor["dims"])):
                    raise pb_utils.TritonModelException(
                        f"{kind} '{tensor['name']}' is {found['data_type']}{found['dims']}, "
                        f"not {tensor['data_type']}{tensor['dims']}"
                    )

    def execute(self, requests):
        if self.merges and len(requests) > 1:
            try:
                return self.respond_together(requests)
            except Exception:  # one request's failure must not become another's: each is to show its own
                pb_utils.Logger.log_verbose("requests that cannot be answered together are answered one by one")
        return [self.respond(request) for request in requests]

    def respond_together(self, requests):
        feeds = [{tensor.name(): self.feed(tensor) for tensor in request.inputs()} for request in requests]
        wanted = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self.outputs if any(name in each for each in wanted)]
        ends = np.cumsum([len(next(iter(each.values()))) for each in feeds])
        parts = [np.split(array, ends[:-1]) for array in self.session.run(names, merged(feeds))]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, part[number]) for name, part in zip(names, parts, strict=True) if name in each]
            )
            for number, each in enumerate(wanted)
        ]

    def respond(self, request):
        if self.seconds > WORTH_ASKING_SECONDS and request.is_cancelled():
            return abandoned()  # while it waited for its turn
        start = time.perf_counter()
        options = self.watch.begin(request)
        try:
            names = [name for name in self.outputs if name in request.requested_output_names()]
            answer = self.run_ort_values if self.bfloat16 else self.run_arrays
            return pb_utils.InferenceResponse(answer(request, names, options))
        except Exception as error:  # one request's failure, whatever it is, must not become another's
            return abandoned() if options.terminate else refused(error)
        finally:
            self.watch.end()
            self.seconds = time.perf_counter() - start

    def run_arrays(self, request, names, options):
        feeds = {tensor.name(): self.feed(tensor) for tensor in request.inputs()}
        arrays = self.session.run(names, feeds, options)
        return [pb_utils.Tensor(name, np.atleast_1d(array)) for name, array in zip(names, arrays, strict=True)]

    def run_ort_values(self, request, names, options):
        feeds = {}
        for tensor in request.inputs():
            if self.inputs[tensor.name()].type == "tensor(bfloat16)":
                feeds[tensor.name()] = onnxruntime.OrtValue.from_dlpack(tensor.to_dlpack())
            else:
                feeds[tensor.name()] = onnxruntime.OrtValue.ortvalue_from_numpy(self.feed(tensor))
        tensors = []
        for name, value in zip(names, self.session.run_with_ort_values(names, feeds, options), strict=True):
            if self.outputs[name].type == "tensor(bfloat16)":
                tensors.append(pb_utils.Tensor.from_dlpack(name, value._get_c_value().to_dlpack()))
            else:
                tensors.append(pb_utils.Tensor(name, np.atleast_1d(value.numpy())))
        return tensors

    def feed(self, tensor):
        values = tensor.as_numpy()
        if values.dtype == np.object_:
            values = decode_strings(tensor.name(), values)
        return values if self.inputs[tensor.name()].shape else values.reshape(())
