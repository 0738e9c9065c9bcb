"""The trainable parameters on a base model, an adapter or the model itself: built, initialized,
measured, saved and verified.
"""
