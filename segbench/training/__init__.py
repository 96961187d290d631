"""What a training is made of; ``segbench.train`` puts it together."""
