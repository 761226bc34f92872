"""What every stage stands on: images, networks, the loss and its gradients, files and caches."""
