"""Plain modules; no mask in any forward."""

from tombola.world.models.bert import BertClassifier
from tombola.world.models.convnet import ConvNet
from tombola.world.models.lenet import LeNet
from tombola.world.models.mean_field import MeanField
from tombola.world.models.resnet import ResNet
from tombola.world.models.vgg import VGG
from tombola.world.models.wide_resnet import WideResNet

__all__ = ["VGG", "BertClassifier", "ConvNet", "LeNet", "MeanField", "ResNet", "WideResNet"]
