"""The probes one can name on the command line, and where each is."""

PROBES: dict[str, str] = {
    "stability": "tombola.lab.probe.stability:STABILITY",
    "onset": "tombola.lab.probe.stability:ONSET",
    "effective": "tombola.lab.probe.effective:EFFECTIVE",
    "overlap": "tombola.lab.probe.overlap:OVERLAP",
    "pretraining": "tombola.lab.probe.pretraining:PRETRAINING",
    "sensitivity": "tombola.lab.probe.sensitivity:SENSITIVITY",
    "gradient-flow": "tombola.lab.probe.gradient_flow:GRADIENT_FLOW",
    "relearning": "tombola.lab.probe.relearning:RELEARNING",
    "settling": "tombola.lab.probe.settling:SETTLING",
}
