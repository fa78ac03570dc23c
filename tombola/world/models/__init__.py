"""Plain modules; no mask in any forward."""

from tombola.world.models.convnet import ConvNet
from tombola.world.models.lenet import LeNet
from tombola.world.models.resnet import ResNet
from tombola.world.models.vgg import VGG

__all__ = ["VGG", "ConvNet", "LeNet", "ResNet"]
