"""Names that earlier versions wrote into files, and the present names."""

# A file names a class with its Python module, so a class that moves or is renamed gets a row here.
CLASSES = {
    "tinyml.nn.module.Sequential": "tinyml.nn.containers.Sequential",
    "tinyml.nn.module.ModuleList": "tinyml.nn.containers.ModuleList",
    "tinyml.models.gpt.TinyGPT": "tinyml.models.gpt.model.TinyGPT",
    "tinyml.models.gpt.Block": "tinyml.models.gpt.network.Block",
}
