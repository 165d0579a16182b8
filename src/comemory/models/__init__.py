"""The networks. They need torch, pydantic and nothing else of comemory.

To add a network, write one file with a subclass of `contract.Model` and its `Settings`, and add one line to `MODELS`.

contract.py   what every network provides      settings.py  settings, read without torch
comemory.py   the co-memory network            layers.py, memory.py, motion_encoders.py, losses.py  its parts
evidence.py   maps for the scoring             baselines/   published networks to compare with
"""

MODELS = {
    "comemory": "comemory.models.comemory:CoMemory",
    "abnormal-gan": "comemory.models.baselines.abnormal_gan:AbnormalGan",
    "am-correspondence": "comemory.models.baselines.am_correspondence:AmCorrespondence",
    "ammc": "comemory.models.baselines.ammc:Ammc",
    "any-shot": "comemory.models.baselines.any_shot:AnyShot",
    "autoencoder": "comemory.models.baselines.autoencoder:Autoencoder",
    "cdae": "comemory.models.baselines.cdae:Cdae",
    "cluster-attention": "comemory.models.baselines.cluster_attention:ClusterAttention",
    "convlstm-ae": "comemory.models.baselines.convlstm:ConvLstm",
    "frame-prediction": "comemory.models.baselines.frame_prediction:FramePrediction",
    "memae": "comemory.models.baselines.memae:Memae",
    "mnad-prediction": "comemory.models.baselines.mnad:Mnad",
    "mnad-reconstruction": "comemory.models.baselines.mnad:MnadReconstruction",
    "motion-baseline": "comemory.models.baselines.motion_baseline:MotionBaseline",
    "stacked-rnn": "comemory.models.baselines.sparse_coding:StackedRnn",
    "tsc": "comemory.models.baselines.sparse_coding:Tsc",
}
"""Networks by the name that a configuration and a bundle give."""

SETTINGS = {"comemory": "comemory.models.settings:CoMemorySettings"}
"""Settings that are read without torch. A network that is not listed has its class imported for its `Settings`."""
