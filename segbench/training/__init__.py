"""What a training is made of; ``segbench.training.train`` puts it together."""
