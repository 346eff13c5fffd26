"""Texts on which heads can show what they do beyond copying: repeated passages, translations, lines of classes."""
