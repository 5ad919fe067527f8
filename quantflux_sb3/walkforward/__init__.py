"""Walk-forward: the experiment of ``quantflux run`` again for every test year, refitted each time on what came before."""
