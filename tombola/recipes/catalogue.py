"""The recipes one can name on the command line, and where each is."""

RECIPES: dict[str, str] = {
    "imp": "tombola.recipes.imp:IMP",
    "imp-rewind": "tombola.recipes.imp:IMP_REWIND",
    "oneshot": "tombola.recipes.imp:ONESHOT",
    "snip": "tombola.recipes.snip:SNIP",
    "obs": "tombola.recipes.obs:OBS",
    "rigl": "tombola.recipes.rigl:RIGL",
    "edge-popup": "tombola.recipes.edge_popup:EDGE_POPUP",
    "kd-ticket": "tombola.recipes.distil:KD_TICKET",
}
