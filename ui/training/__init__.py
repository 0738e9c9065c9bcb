"""What a training will need, and what is proposed for it: estimate, “Make it fit”, recipe."""
