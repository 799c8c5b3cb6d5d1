"""Custom ops: one public function each, a readable reference, and faster formulations that equal it."""
