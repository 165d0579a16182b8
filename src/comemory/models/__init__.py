"""The networks. Torch only; nothing else of comemory is known here.

The model contract. A model of `MODELS` is a `torch.nn.Module` made from keyword arguments that are plain JSON values,
with

* `observe(frames_BTCHW, flow_B2HW, *items) -> dict of named tensors`: the evidence of a batch of clips, then the memory
  items after an update with these clips, one `updated_<memory>` for each memory. This is the exported graph: it holds
  no state, so that a runtime is a short file and a detector decides whether to keep the updated items;
* where its graph is to take clips folded, `squares`, the fields of `runtimes.Squares` as a dict, and `observe_squares`,
  which is `observe` of what that makes of a clip;
* `memories() -> dict of Memory`: the memories by name, in the order in which `observe` takes their items;
* `forward(past_BTCHW)`, with `flow_B2HW` and `frame_BCHW` of what it makes of the past, where it is to teach; and
* `loss(frames_BTCHW, flow_B2HW, weights) -> (total, parts)`: what training minimises.

Evidence maps are means over cells of `evidence.CELL` x `evidence.CELL` pixels.
"""

MODELS = {"comemory": "comemory.models.comemory:CoMemory"}
