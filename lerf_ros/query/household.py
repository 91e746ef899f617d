# SPDX-License-Identifier: Apache-2.0
"""Names of things in homes, offices and workshops, for a list of what is there.

A list needs names to choose from, and no encoder brings any of its own. Whoever knows better what
may be there gives other names.
"""

from __future__ import annotations

NAMES = tuple(name.strip() for name in """
apple, banana, orange, lemon, pear, strawberry, pineapple, grapes, avocado, tomato, bell pepper,
cucumber, carrot, broccoli, cauliflower, cabbage, corn, mushroom, onion, potato, pumpkin, egg,
bread, bagel, pretzel, croissant, cake, pizza, sandwich, burger, hot dog, cheese, chocolate,
ice cream, cookie, coffee, coffee mug, tea cup, drinking glass, wine glass, wine bottle,
beer bottle, water bottle, milk carton, juice box, soda can, tin can, jar, pitcher, teapot, kettle,
coffee maker, toaster, microwave oven, blender, rice cooker, frying pan, cooking pot, wok, bowl,
plate, tray, fork, knife, spoon, ladle, spatula, whisk, corkscrew, cutting board, salt shaker,
measuring cup, kitchen scale, dish soap, sponge, paper towel, napkin, cereal box, cardboard box,
plastic bag, shopping basket, bucket, trash can, broom, vacuum cleaner, iron, soap dispenser,
toothbrush, hair dryer, comb, lipstick, perfume bottle, lotion, pill bottle, toilet paper, towel,
candle, vase, flower, potted plant, flowerpot, picture frame, mirror, wall clock, alarm clock,
wrist watch, hourglass, table lamp, desk lamp, flashlight, light bulb, remote control, television,
computer monitor, laptop, computer keyboard, computer mouse, printer, mobile phone, telephone,
headphones, microphone, loudspeaker, radio, camera, tripod, projector, game controller, joystick,
battery, power strip, cable, book, notebook, magazine, newspaper, envelope, pen, pencil,
fountain pen, pencil sharpener, pencil case, eraser, ruler, scissors, stapler, tape dispenser,
calculator, binder, backpack, handbag, purse, wallet, suitcase, umbrella, hat, cap, sunglasses,
glasses, shoe, boot, sandal, sock, glove, shirt, jacket, tie, scarf, pillow, blanket, curtain, rug,
chair, stool, sofa, table, desk, shelf, cabinet, bed, door, window, wall, floor, ladder, hammer,
screwdriver, wrench, pliers, saw, drill, screw, nail, tape measure, axe, paintbrush, padlock, key,
toolbox, rope, hose, helmet, dumbbell, ball, soccer ball, basketball, tennis ball, golf ball,
baseball, rugby ball, ping pong ball, croquet ball, tennis racket, baseball bat, skateboard,
bicycle, guitar, violin, drum, trumpet, piano, maraca, bell, teddy bear, doll, toy car, toy truck,
toy train, toy airplane, toy boat, rubber duck, building blocks, puzzle, dice, playing cards,
chess board, piggy bank, balloon, kite, globe, trophy, magnifying glass, binoculars, thermometer,
stethoscope, syringe, bandage, fire extinguisher
""".replace('\n', ' ').split(','))
