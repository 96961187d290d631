"""Is a network robust, or does it hide its gradient from the attack? See ``checks.py``."""
