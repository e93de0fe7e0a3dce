"""Which version of Shunter this is, for those who may not import the package's face."""

VERSION = "0.1.0"
