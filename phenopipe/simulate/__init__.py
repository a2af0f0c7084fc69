"""Screens with known truth, drawn cell by cell and written as a microscope's files."""

from phenopipe.simulate.design import CHANNELS, Nuisances, ScreenDesign
from phenopipe.simulate.screen import simulate_screen

__all__ = ["CHANNELS", "Nuisances", "ScreenDesign", "simulate_screen"]
