"""Face recognition: backbones, embedding, detection, margin heads, recognition training, verification."""
