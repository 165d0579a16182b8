"""PyTorch, for research: the same evidence from the model itself, without an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from comemory.config import describe_validation
from comemory.errors import BundleError, ConfigError, short_repr
from comemory.models import MODELS
from comemory.registry import Registry
from comemory.runtimes import InputLayout, Network
from comemory.runtimes.sharing import OneCaller


def load_model(network: Network) -> Any:
    """Load the model of a bundle: in evaluation mode, fp32, on the CPU.

    The model is made on the device `meta`, without memory, and takes over the memory of the weights: no setting in a bundle can
    allocate more than the size of its file.

    Raises:
        BundleError: the weights do not fit the model, or its settings in `config.json` are not valid.
        ConfigError: the model is not in the registry.
    """
    model = Registry("model", MODELS).load(network.model)
    try:
        with torch.device("meta"):
            made = model.from_kwargs(**network.model_kwargs)
        made.load_state_dict(safetensors.torch.load_file(network.weights), assign=True)
        for memory in made.memories().values():
            memory.usage = torch.zeros(len(memory.items))  # counted during a training, and not part of the weights
    except ConfigError:
        raise
    except ValidationError as error:
        reason = describe_validation(model.Settings, error)
        raise BundleError(f"{network.weights.parent / 'config.json'}, settings of the network: {reason}") from None
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, KeyError, OSError) as error:
        raise BundleError(f"the weights {network.weights} do not fit the model: {short_repr(str(error))}") from None
    return made.float().eval()


class PyTorch:
    """Runs the model of a bundle; see `load_model`. Callers in several threads take turns.

    Args:
        network: its `model`, `model_kwargs` and `weights` are read.
        threads: number of CPU threads of this process; None leaves it as it is.

    Raises:
        BundleError: the weights do not fit the model.
        ConfigError: the model is not in the registry, or this process was forked from one that had used this runtime.
    """

    name = "pytorch"

    def __init__(self, network: Network, threads: int | None = None) -> None:
        self.precision = network.precision
        self._one_caller = OneCaller("PyTorch")
        with self._one_caller:
            if threads is not None:
                torch.set_num_threads(threads)
            self._model = load_model(network)
        self._weights = network.weights
        self._names = [*network.layout.input_names, *(f"{name}_items" for name in self._model.memories())]
        self._infer = self._model.infer if network.layout == InputLayout() else self._model.infer_unshuffled

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the model; see `types.Runtime.run`.

        Raises:
            BundleError: the inputs do not fit the model.
            ConfigError: this process was forked from the one that opened the runtime.
        """
        if inputs.keys() != set(self._names):
            raise BundleError(f"the model of {self._weights} takes {sorted(self._names)}, not {sorted(inputs)}")
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._names]
        with self._one_caller:  # a model may keep something in its members while it runs
            try:
                return {name: tensor.numpy() for name, tensor in self._infer(*tensors).items()}
            except RuntimeError as error:
                raise BundleError(f"the model of {self._weights} cannot run: {short_repr(str(error))}") from None
