"""From a trained generator to a filtered recognition dataset of people who do not exist."""
