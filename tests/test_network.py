"""The transformation network: its parameters, and the function that trains it."""

import torch

from metastyle.core.network import new_network, parameter_names, transform


def test_transform_is_the_network():
    network = new_network(3).double()
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0)).double()
    ours = transform(dict(network.named_parameters()), images)
    torch.testing.assert_close(ours, network(images, logits=True), rtol=1e-9, atol=1e-11)


def test_parameters_are_named_and_counted():
    parameters = dict(new_network(0).named_parameters())
    assert parameter_names("all") == list(parameters)
    assert sum(p.numel() for p in parameters.values()) == 1_679_235
    norms = parameter_names("instance_norm")
    assert sum(parameters[name].numel() for name in norms) == 3_200
