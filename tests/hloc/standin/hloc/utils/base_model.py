"""Models are found by the name of their module, and get their defaults merged in."""

from importlib import import_module

from torch import nn


class BaseModel(nn.Module):
    default_conf: dict = {}  # noqa: RUF012
    required_inputs: list = []  # noqa: RUF012

    def __init__(self, conf):
        super().__init__()
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)

    def forward(self, data):
        assert all(key in data for key in self.required_inputs)
        return self._forward(data)


def dynamic_load(root, model):
    name = f"{root.__name__}.{model}"
    found = [
        value
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == name
    ]
    assert len(found) == 1, found
    return found[0]
