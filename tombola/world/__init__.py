"""What a recipe is applied to: a network, its data, an objective, and how it is trained."""
