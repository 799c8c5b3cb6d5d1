"""From a trained generator to a dataset of people who do not exist: identities, candidates, filter, writing, report."""
