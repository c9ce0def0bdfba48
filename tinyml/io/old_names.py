"""Names that earlier versions wrote into files, and what they are called now."""

# Classes of modules: a file names a class by its module, so one that moves or is renamed gets a row here.
CLASSES = {
    "tinyml.nn.module.Sequential": "tinyml.nn.containers.Sequential",
    "tinyml.nn.module.ModuleList": "tinyml.nn.containers.ModuleList",
    "tinyml.models.gpt.TinyGPT": "tinyml.models.gpt.model.TinyGPT",
    "tinyml.models.gpt.Block": "tinyml.models.gpt.network.Block",
}
